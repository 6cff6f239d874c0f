from .claims import Claim as Claim
from .diagnosis import Diagnosis as Diagnosis
from .diagnosis import Finding as Finding
from .diagnosis import diagnose as diagnose
from .hypotheses import Hypothesis as Hypothesis
