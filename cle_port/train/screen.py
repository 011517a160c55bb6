"""What a monitoring step shows on the screen.

Counterpart: the lines that ``cle.train.ext.Monitoring``, ``Picklize`` and
``EarlyStopping`` print.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cle_port.train.log import Entry

if TYPE_CHECKING:
    from cle_port.train import Training

logger = logging.getLogger(__name__)

# Numbers of a step that are neither channels of the data nor the means of recent outputs.
OF_THE_RUN = ("elapsed_time", "learning_rate", "grad_norm", "monitoring_time", "best", "wall_time")


class Screen:
    """Shows nothing; a subclass says what it shows of a monitoring step.

    Notes
    -----
    No counterpart: the original's extensions print by themselves.
    """

    def before(self, mainloop: Training, entry: Entry) -> None:
        """Show what is known before the data are gone through.

        Parameters
        ----------
        mainloop : Training
        entry : dict of str to float or list of float
            Numbers of the step so far, by the names of the log.
        """

    def after(self, mainloop: Training, entry: Entry, data_names: Sequence[str]) -> None:
        """Show the whole step.

        Parameters
        ----------
        mainloop, entry
            See `before`.
        data_names : list of str
            Names of the data sets, with which the names of their channels begin.
        """

    def saving(self, kind: str, path: str | Path) -> None:
        """Show that a checkpoint is being written.

        Parameters
        ----------
        kind : str
            Such as ``model`` or ``best model``.
        path : path
        """

    def end(self, mainloop: Training) -> None:
        """Show what is worth knowing at the end of a run."""


def channels(entry: Entry) -> Entry:
    """Return the numbers of a step that were computed on data sets, ``<data>_<channel>``."""
    return {
        name: value
        for name, value in entry.items()
        if name not in OF_THE_RUN and not name.startswith("this_batch_")
    }


class OriginalScreen(Screen):
    """Every channel on a line of its own, in the original's words.

    Notes
    -----
    Counterpart: ``exe`` and ``monitor_data_based_channels`` of
    ``cle.train.ext.Monitoring``.  The channels come when all of them are known.
    Lists, which the original does not monitor, are left out.
    """

    def before(self, mainloop: Training, entry: Entry) -> None:
        """See `Screen`."""
        log = mainloop.trainlog
        logger.info("")
        logger.info(" Monitoring step")
        logger.info(" ***************")
        logger.info(" ---------------")
        logger.info(" Training basics")
        logger.info(" ...............")
        logger.info(" Elapsed time: %f", entry["elapsed_time"])
        logger.info(" Epochs  seen: %d", log.epoch_seen)
        logger.info(" Batches seen: %d", log.batch_seen)
        logger.info(" -----------------------")
        logger.info(" Optimization parameters")
        logger.info(" .......................")
        mainloop.optimizer.monitor()
        logger.info(" ------------------")
        logger.info(" Forward-prop based")
        logger.info(" ..................")
        if log.batch_seen == 0:
            logger.info(" initial_monitoring")
        self._channels({name: v for name, v in entry.items() if name.startswith("this_batch_")})

    def after(self, mainloop: Training, entry: Entry, data_names: Sequence[str]) -> None:
        """See `Screen`."""
        self._channels(channels(entry))
        logger.info(" Elapsed time for monitoring: %f", entry["monitoring_time"])

    def saving(self, kind: str, path: str | Path) -> None:
        """See `Screen`."""
        logger.info(" Saving %s to: %s", "best model" if kind.startswith("best") else "model", path)

    def _channels(self, entry: Entry) -> None:
        for name, value in entry.items():
            if not isinstance(value, list):
                logger.info(" %s: %f", name, value)
