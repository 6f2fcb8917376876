"""What runs a training: the runner, its hooks, the optimizer's groups and the strict reading of configs."""

from vasomim import compat

compat.prepare()

from vasomim.engine.figures import ReconstructionFigureHook  # noqa: E402
from vasomim.engine.initialize import EncoderInitHook, load_encoder  # noqa: E402
from vasomim.engine.loop import ResumableTrainLoop  # noqa: E402
from vasomim.engine.optim import LayerDecayOptimWrapperConstructor  # noqa: E402
from vasomim.engine.precision import AutocastOptimWrapper  # noqa: E402
from vasomim.engine.progress import ProgressHook  # noqa: E402
from vasomim.engine.runner import PretrainRunner  # noqa: E402
from vasomim.engine.saving import SafeCheckpointHook  # noqa: E402
from vasomim.engine.scalars import DeferredRuntimeInfoHook  # noqa: E402
from vasomim.engine.schedule import PolynomialLR, WarmupCosineLR  # noqa: E402
from vasomim.engine.seeding import IterationSeedHook  # noqa: E402
from vasomim.engine.sharding import ShardedRunner  # noqa: E402
from vasomim.engine.skipped import SkippedFramesHook  # noqa: E402
from vasomim.engine.strict import check_config, check_options  # noqa: E402

__all__ = [
    'AutocastOptimWrapper',
    'DeferredRuntimeInfoHook',
    'EncoderInitHook',
    'IterationSeedHook',
    'LayerDecayOptimWrapperConstructor',
    'PolynomialLR',
    'PretrainRunner',
    'ProgressHook',
    'ReconstructionFigureHook',
    'ResumableTrainLoop',
    'SafeCheckpointHook',
    'ShardedRunner',
    'SkippedFramesHook',
    'WarmupCosineLR',
    'check_config',
    'check_options',
    'load_encoder',
]
