"""Test Anything Protocol on standard output."""
import sys, traceback

count = 0
failed = 0


def ok(condition, name, *more):
    global count, failed
    count += 1
    if not condition: failed += 1
    print("%sok %d - %s" % ("" if condition else "not ", count, name.replace("#", "\\#")), flush=True)
    if not condition:
        for m in more: print("\n".join("#   " + l for l in str(m).splitlines()), flush=True)
    return bool(condition)


def equal(got, want, name):
    return ok(got == want, name, "got  %.2000s" % (got,), "want %.2000s" % (want,))


def skip(name, why):
    global count
    count += 1
    print("ok %d - %s # SKIP %s" % (count, name, why), flush=True)


def note(text):
    print("\n".join("# " + l for l in str(text).splitlines()), flush=True)


def main(test):
    """runs test(); what it raises is a failed test"""
    try: test()
    except BaseException as x:
        ok(False, "%s: %s" % (type(x).__name__, str(x).split("\n")[0]), traceback.format_exc())
    print("1..%d" % count, flush=True)
    sys.exit(1 if failed else 0)
