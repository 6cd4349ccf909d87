"""The command `gru4rec`, one file per command. Heavy imports happen inside the commands, so that --help is instant."""
