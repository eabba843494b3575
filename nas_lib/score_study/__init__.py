"""The score study: how well scores without training rank networks whose results are known."""
