"""Core ML's ML Program, read back from the saved package and executed without Apple's runtime.

The reference interpreter makes parity of ``.mlpackage`` files a check that runs anywhere. It knows what the format's
documentation says each operation means; it does not know how a Neural Engine, a GPU or Apple's CPU code rounds, and
it never claims to.
"""
