"""The order in which filters see a request."""

from netapp.http import Headers, Request, Response, compose
from netapp.peer import Peer


def test_the_first_filter_is_the_outermost():
    seen = []

    def named(name):
        def around(responder):
            def answer(request):
                seen.append(f"{name} in")
                response = responder(request)
                seen.append(f"{name} out")
                return response

            return answer

        return around

    def respond(_):
        seen.append("responder")
        return Response()

    compose(respond, named("a"), named("b"))(Request("GET", b"/", Headers(), Peer("c")))
    assert seen == ["a in", "b in", "responder", "b out", "a out"]


def test_without_filters_the_responder_is_itself():
    def respond(_):
        return Response()

    assert compose(respond) is respond
