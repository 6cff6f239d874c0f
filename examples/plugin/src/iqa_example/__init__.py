"""A plug-in of iqa-metrics: one metric, one readout, one database, one backbone."""


def register() -> None:
    """Register everything in this package; the entry point names this function."""
    from iqa_example import gabor, gmsd, huber, lab
    from iqa_metrics import (
        register_backbone,
        register_database,
        register_metric,
        register_readout,
    )

    register_metric(gmsd.RECORD)
    register_readout(huber.RECORD)
    register_database(lab.RECORD)
    register_backbone(gabor.RECORD)
