"""The claims of "Instance Normalization: The Missing Ingredient", reproduced and measured; ``trainer.compare`` runs it.

``plan`` says what is trained, ``workshop`` trains it, ``measures`` measures what was trained, ``results`` keeps the
numbers, ``verdicts`` judges them, and ``report`` writes the document with ``charts`` and ``grids``.
"""
