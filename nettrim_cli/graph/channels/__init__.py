"""Hidden units of a network - neurons, channels, heads - and how they are deleted exactly.

``find.unit_groups(model)`` finds all that can be deleted, in disjoint groups, and
``find.refusals(model)`` tells for other layers why their outputs have to stay.
``delete.delete_units(model, kept)`` gives a new, smaller model with the units that stay, by name
of the group.  ``dead.dead_units(model)`` tells what a pruned model can do without.
"""
