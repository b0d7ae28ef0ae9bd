"""`make app` and `python -m lookalike.page`: the page, opened without TensorFlow's noise."""

from lookalike.machine import quiet_tensorflow

if __name__ == "__main__":
    quiet_tensorflow()
    from lookalike.page import command

    command.main()
