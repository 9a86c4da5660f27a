from setuptools import find_packages, setup

setup(
    name="guestbook",
    version="1.2.0",
    packages=find_packages(),
    include_package_data=True,
    python_requires=">=3.9",
    install_requires=[
        "Flask>=3.0",
        "gunicorn",
    ],
)
