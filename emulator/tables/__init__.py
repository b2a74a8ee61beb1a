"""Figures as text: the tables of a run, of many runs, of profiles and traces; what the numbers say in a sentence.

What a run prints at its end is made in ``overview``; the other tables of its ``tables.md`` in ``run``,
``communication`` and ``memory``, of figures that ``analysis`` derives.

clients_data     The data of a run, as its manifest holds them: what was read, and what each client has of it
clock_agreement  Both clocks side by side, as a table
communication    The tables of communication: what each method sends, in all and by kind of message
computations     What a computation costs, as a table
energy           The tables of energy: joules by method, cause and kind of device
figure_columns   Columns of the figures that methods are compared by, a row a method
headline         The headline of a run: one sentence that says which method is best by which figure
memory           What clients needed of their memory, as tables: by device, with a paper's model
overview         What a run prints at its end, from its summary alone: verdict, the tables of the three questions
profiles         Profiles as text: what ships, and one profile with the sources of its numbers
run              The run's tables by name, from ``summary.json`` alone: each by itself, all as Markdown
sweep            The tables of many runs: what each method takes, how methods differ within a seed
table            A table of cells with a value and a text, and its renderings: a terminal's, Markdown, CSV
traces           Traces as text: which ship, and one of them drawn over its time
"""
