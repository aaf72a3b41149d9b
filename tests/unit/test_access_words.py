"""The account page has plain words for whatever the contract lets a service do for a person."""

import re

import pytest
from inglenook.access.v1.access_pb2 import Access

from contract.folders import DESCRIPTORS, ROOT
from contract.methods import Method, load_methods

WORDS = (ROOT / "web/src/account/access_words.ts").read_text()
RECORDED = [
    method
    for method in load_methods(DESCRIPTORS)
    if not method.bookkeeping and method.allow & {Access.ACCESS_SERVICE, Access.ACCESS_DELEGATE}
]


@pytest.mark.parametrize("method", RECORDED, ids=lambda method: method.name)
def test_there_are_words_for_every_method_that_services_may_call(method: Method) -> None:
    assert re.search(rf"^  {method.name}: ", WORDS, re.MULTILINE)
