"""One module per command of the program: a thin function of the module's name, heavy imports inside it.

``fewstep.cli`` registers every module here whose name does not begin with an underscore: ``new_plugin.py`` holds
``def new_plugin(...)`` and is typed as ``fewstep new-plugin``. The docstring is the help.
"""
