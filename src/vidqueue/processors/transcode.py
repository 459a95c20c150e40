"""placeholder"""
from vidqueue.processors.base import Parameters, Processor
class Transcode(Processor):
    name = "transcode"
    Params = Parameters
