"""One module for each tool that shows searches; `tuning.tracking` tells them what happens."""
