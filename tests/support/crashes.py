"""A process that ends at one of its steps, which are the calls that change something."""


class Crash(BaseException):
    """The process ends here."""


def crash_at(patch, number, places, done, dying=lambda: None):
    """Note the names of calls in a list, and crash in place of the one of that number.

    `dying` is called just before, for what is to stay as it is then.
    """

    def noted(call, name):
        def step(*given, **more):
            done.append(name)
            if len(done) - 1 == number:
                dying()
                raise Crash
            return call(*given, **more)

        return step

    for place, name in places:
        patch.setattr(place, name, noted(getattr(place, name), name))
