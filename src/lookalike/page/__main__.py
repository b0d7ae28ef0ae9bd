"""`make app` and `python -m lookalike.page`: the page, opened without TensorFlow's noise."""

from lookalike.workspace import quiet_tensorflow


def main() -> None:
    """Load TensorFlow quietly, then open the page; what it takes is in `app.main`."""
    quiet_tensorflow()
    from lookalike.page import app

    app.main()


if __name__ == "__main__":
    main()
