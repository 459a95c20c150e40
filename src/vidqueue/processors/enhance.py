"""placeholder"""
from vidqueue.processors.base import Parameters, Processor
class Enhance(Processor):
    name = "enhance"
    Params = Parameters
