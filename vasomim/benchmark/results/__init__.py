"""Results on disk: records of cells and pre-trainings, tables of scores per case, and the folder that holds them."""
