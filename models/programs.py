"""The four training programs by name."""

from models import rnn_gauss, rnn_gmm, vrnn_gauss, vrnn_gmm
from models.rnn_gmm import RNN
from models.running import Program
from models.vrnn_gmm import VRNN

Net = RNN | VRNN

PROGRAMS: dict[str, Program] = {
    script.PROGRAM.name: script.PROGRAM for script in (rnn_gauss, rnn_gmm, vrnn_gauss, vrnn_gmm)
}
