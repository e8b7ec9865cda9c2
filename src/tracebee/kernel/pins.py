# IDS: at 22:40:21 helper LOAD wrote a file of the same name over your uncommitted kernel/pins.py (read_pins …), by
# mistake; its content is lost here.  Please write it again from what you have.  LOAD's own file is kernel/reuse.py now.
