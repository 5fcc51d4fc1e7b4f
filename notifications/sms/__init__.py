"""SMS: who carries them, behind one small interface."""
