"""What a config that a checkpoint carries may build, and with which values: data, and nothing else.

Whoever wrote a checkpoint wrote its config. Many classes of OpenMMLab's libraries load the file that a key names,
import a module or evaluate a text. So a stored config builds classes of this project and those listed here, whose
sources were read: they do none of this with numbers, flags and the words below. Any other text is refused.

To add a class: read its source and those of its bases for what they do with each text that they are given (``eval``,
``import_module``, ``getattr``, ``load``, ``open``), and add its name. A text that it needs goes into ``WORDS``, as the
few values that it may take. ``tests/checkpoints/test_allow_list.py`` tries every key of every registered class.
"""

from __future__ import annotations

import re

SCOPES = ('mmengine', 'mmpretrain', 'mmseg', 'mmdet', 'vasomim')  # Whose classes a config may ask for by `_scope_`.
LIBRARIES = ('mmengine', 'mmcv', 'mmpretrain', 'mmseg', 'mmdet')
# What registers classes in OpenMMLab's registries without having been asked to by the user.
STACK = (*LIBRARIES, 'torch', 'torchvision', 'transformers', 'timm', 'functools', 'builtins')

# By the package that defines it: the name of the class, not the one that it is registered by (BN is BatchNorm2d).
_CLASSES = {
    'torch': """
        BatchNorm1d BatchNorm2d GroupNorm InstanceNorm2d LayerNorm
        ELU GELU Hardswish LeakyReLU PReLU ReLU ReLU6 SiLU Sigmoid Tanh
        Conv2d Linear Upsample
    """,
    'mmengine': 'SyncBatchNorm',
    'mmcv': """
        Conv2d ConvTranspose2d HSigmoid PixelShufflePack Swish
        CenterCrop Normalize Pad RandomFlip Resize
    """,
    'mmpretrain': """
        LayerNorm2d
        ConvNeXt DeiT3 EfficientNet ResNeXt ResNet SwinTransformer SwinTransformerV2 VisionTransformer
        MAEPretrainDecoder PixelReconstructionLoss
    """,
    'mmseg': """
        CascadeEncoderDecoder EncoderDecoder SegDataPreProcessor
        HRNet InterpConv MSCAN MixVisionTransformer MobileNetV2 ResNeXt ResNet ResNetV1c ResNetV1d SwinTransformer UNet
        VisionTransformer
        FPN Feature2Pyramid MLANeck MultiLevelNeck
        ASPPHead DAHead DepthwiseSeparableASPPHead DepthwiseSeparableFCNHead FCNHead FPNHead OCRHead PSPHead SETRMLAHead
        SETRUPHead SegformerHead SegmenterMaskTransformerHead UPerHead
        BoundaryLoss CrossEntropyLoss DiceLoss FocalLoss HuasdorffDisstanceLoss LovaszLoss OHEMPixelSampler
        OhemCrossEntropy TverskyLoss
        AdjustGamma CLAHE PackSegInputs RGB2Gray RandomFlip Rerange Resize ResizeShortestEdge ResizeToMultiple
    """,
    'mmdet': """
        ATSS CascadeRCNN DetDataPreprocessor FCOS FasterRCNN GFL RetinaNet
        HRNet PyramidVisionTransformerV2 ResNeXt ResNet ResNetV1d SwinTransformer
        ChannelMapper FPN HRFPN PAFPN
        ATSSHead FCOSHead GFLHead RPNHead RetinaHead
        CascadeRoIHead ConvFCBBoxHead Shared2FCBBoxHead Shared4Conv1FCBBoxHead SingleRoIExtractor StandardRoIHead
        AnchorGenerator DeltaXYWHBBoxCoder DistancePointBBoxCoder MlvlPointGenerator
        BoundedIoULoss CIoULoss CrossEntropyLoss DIoULoss DistributionFocalLoss FocalLoss GIoULoss IoULoss L1Loss
        MSELoss QualityFocalLoss SmoothL1Loss VarifocalLoss
        PackDetInputs Pad RandomFlip Resize
    """,
}
CLASSES = frozenset((package, name) for package, names in _CLASSES.items() for name in names.split())

# The texts that keys of these classes take, as regular expressions. A dotted key is more than its last part.
WORDS = {
    'add_extra_convs': 'on_input|on_lateral|on_output',
    'approximate': 'none|tanh',
    'arch': '[a-z0-9][a-z0-9_-]{0,20}',  # A key into a table of the class.
    'bias': 'auto',
    'block': 'BASIC|BOTTLENECK',
    'classes': 'present|all',
    'conv_bias': 'auto',
    'criterion': 'L1|L2',
    'direction': 'horizontal|vertical|diagonal',
    'input_transform': 'resize_concat|multiple_select',
    'interpolate_mode': 'nearest|bilinear|bicubic',
    'interpolation': 'nearest|bilinear|bicubic|area|lanczos',
    'loss_name': '[a-z][a-z0-9_]{0,40}',
    'loss_type': 'binary|multi_class',
    'meta_keys': '[a-z][a-z0-9_]{0,40}',
    'mode': 'whole|slide|nearest|bilinear|bicubic|linear|square|log',
    'nms.method': 'naive|linear|gaussian',
    'nms.type': 'nms|soft_nms',  # mmcv evaluates it.
    'out_type': 'cls_token|featmap|raw|avg_featmap',
    'padding': 'corner|same',
    'padding_mode': 'constant|edge|reflect|symmetric|zeros|replicate|circular',
    'patch_pad': 'corner|same',
    'pool_mode': 'avg|max',
    'pooling_type': 'AVG|MAX',
    'predict_box_type': 'hbox',
    'reduction': 'none|mean|sum',
    'roi_layer.type': 'RoIAlign|RoIPool',  # mmdet takes the operator of this name from mmcv.ops.
    'style': 'pytorch|caffe',
}

# Largest absolute values: what a frame or a map grows by, then everything else. None of it shows in the tensors.
LIMITS = {
    **dict.fromkeys(('output_size', 'pool_scales', 'roi_feat_size', 'sampling_ratio', 'scale_factor'), 64),
    **dict.fromkeys(('dilation', 'dilations', 'kernel_size', 'padding', 'stride', 'strides'), 1024),
    **dict.fromkeys(('crop_size', 'pad_size_divisor', 'scale', 'size', 'size_divisor'), 4096),
}
MOST = 65536
ITEMS = 4096  # Most entries of a list or a section.
DEPTH = 32  # Most levels of a config.

# Keys that say where a training starts from, or how it goes: all tensors come from the checkpoint.
LEFT_OUT = ('init_cfg', 'pretrained', 'train_cfg', 'batch_augments')

# Parts of the names of keys at which classes of this project and of plug-ins take no text.
PLACES = re.compile(
    r'(?:^|[._])(?:args?|backend|cfg|ckpt|checkpoints?|client|code|commands?|config|dirs?|files?|filename|folders?|hub|'
    r'imports?|modules?|packages?|paths?|pkl|prefix|pretrained|repo|roots?|scripts?|sources?|tokenizer|uris?|urls?|'
    r'weights)(?:$|[._])'
)
WORD = re.compile(r'[A-Za-z0-9][A-Za-z0-9_-]{0,63}')


def may_be(key: str, text: str) -> bool:
    """Return whether a class of the list takes a text at a key, given with the keys above it (``rcnn.nms.type``)."""
    parts = key.split('.')
    suffixes = ('.'.join(parts[start:]) for start in range(len(parts)))
    pattern = next((WORDS[suffix] for suffix in suffixes if suffix in WORDS), None)
    return pattern is not None and re.fullmatch(pattern, text) is not None


def names_no_class(key: str) -> bool:
    """Return whether the ``type`` of the section at a key is a word, and not the name of a class."""
    return any(f'.{key}.type'.endswith(f'.{word}') for word in WORDS if word.endswith('.type'))
