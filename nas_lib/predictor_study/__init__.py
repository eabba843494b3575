"""The predictor study: how well each predictor ranks architectures it has not seen, by how many it learnt from."""
