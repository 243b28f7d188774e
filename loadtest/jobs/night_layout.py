"""What `loadtest nightly` keeps in its folder, by name; `loadtest prune` must know it, and loads no more than this."""

HISTORY, TREND, BASELINE, NIGHTS, LOCK = "history.parquet", "trend.html", "baseline", "nights", "night.lock"
METRICS = "nightly.prom"
