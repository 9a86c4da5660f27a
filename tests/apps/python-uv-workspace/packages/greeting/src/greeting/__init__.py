import six


def greet(name):
    return six.ensure_str("hello from the workspace, " + name)
