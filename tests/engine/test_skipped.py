"""Skipped frames are counted and listed."""

from __future__ import annotations

from vasomim.engine import PretrainRunner


def test_skipped_frames_are_listed_once_and_across_a_resumed_run(toy, tmp_path, capsys):
    def train(epochs: int, skipped: dict, **changes: object) -> str:
        config = toy.config(tmp_path, epochs=epochs, hooks={'skipped': {'type': 'SkippedFramesHook'}}, **changes)
        config['train_dataloader']['dataset'] = toy.Frames(12, skipped)
        PretrainRunner(**config).train()
        return capsys.readouterr().out

    listed = tmp_path / 'skipped_frames.txt'
    assert 'corrupt' not in train(1, {})
    assert not listed.exists()

    out = train(2, {3: ['b.png', 'a.png'], 7: ['a.png']})
    assert listed.read_text() == 'a.png\nb.png\n'
    assert out.count(f'2 corrupt frames skipped so far: {listed}') == 1  # and not again in the second epoch

    out = train(3, {5: ['c.png']}, resume=True)
    assert listed.read_text() == 'a.png\nb.png\nc.png\n'
    assert '3 corrupt frames skipped so far' in out

    train(1, {1: ['z.png']})  # a new run starts a new list
    assert listed.read_text() == 'z.png\n'
