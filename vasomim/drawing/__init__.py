"""Pictures of frames, masks, boxes and reconstructions, and the notice that they carry."""
