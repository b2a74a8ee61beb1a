"""Figures as pictures: what each shows, as numbers; how it looks; PNG and SVG files.

charts  Plots of a run's figures: how good models are, where a round's time goes, client memory, when clients are done
data    What the plots show, as plain numbers: pure functions of ``summary.json`` and the ledger
files   A run in pictures: ``draw`` writes ``DIR/plots/``, PNG and SVG, from manifest and ledger
gantt   One round of an algorithm as strips over time: who computes, sends, receives and waits when
style   How all plots look: colours, the frame with title and source, files that are the same whenever they are drawn
"""
