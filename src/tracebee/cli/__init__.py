"""The command line: a module for each command, and the only room that prints.

main      finds the command; the border at which errors become messages
trace     run a script (the default command)
listing   -l: probes and types
info      --info: what this kernel can
dump      -d: a script at the stages of its compilation
output    standard output and error
vm        vm list, fetch, clean: kernels to run things on
progress  a bar for what takes long
usage     the help text
"""
