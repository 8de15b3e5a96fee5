from parity.api import CAPABILITIES as CAPABILITIES
from parity.api import Inconclusive as Inconclusive
from parity.api import Misuse as Misuse
from parity.api import Observations as Observations
from parity.api import Pair as Pair
from parity.api import ParameterLink as ParameterLink
from parity.api import Report as Report
from parity.api import Result as Result
from parity.api import Side as Side
from parity.api import check as check
from parity.api import fault as fault
from parity.api import fused as fused
from parity.api import judge as judge
from parity.api import pair as pair
from parity.api import probe as probe
from parity.api import register as register
from parity.api import tests_of as tests_of

__version__: str
