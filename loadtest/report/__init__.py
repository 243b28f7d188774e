"""What a person reads of a run: page, Markdown, console. `analysis` computes, this room only draws.

`loadtest.report.write.report_run` writes the files of a run folder; `loadtest.report.console.console_table` is the
text a command ends with. Importing this package imports nothing: matplotlib takes half a second.
"""
