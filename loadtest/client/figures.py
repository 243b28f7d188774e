"""What a reactor counts about itself."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

from loadtest.quantiles import LogHistogram


@dataclass(slots=True)
class Figures:
    """Counts since the start of one reactor."""

    passes: int = 0
    passes_cut: int = 0  # stopped by the time limit, so no complete drain
    passes_late: int = 0
    passes_failed: int = 0
    reads: int = 0
    reads_kernel: int = 0
    stamps_refused: int = 0  # kernel stamps that could not be true
    exchanges: int = 0
    connections_opened: int = 0
    connections_reused: int = 0
    retried: int = 0
    errors_unexpected: int = 0
    overshoot: LogHistogram = field(default_factory=LogHistogram)  # ns by which passes ran later than planned

    def flat(self) -> dict[str, int]:
        """The counts, and the overshoot as `overshoot_ns_p50`, `_p99` and `_max`."""
        flat: dict[str, int] = {name: value for name, value in asdict(self).items() if isinstance(value, int)}
        for name, q in (("p50", 0.5), ("p99", 0.99), ("max", 1.0)):
            flat[f"overshoot_ns_{name}"] = int(self.overshoot.quantile(q) or 0)
        return flat
