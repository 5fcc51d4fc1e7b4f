"""Where no webhook may go, whoever asks for it and however it is written."""

from ipaddress import ip_address

import pytest

from notifications.outcomes import Delivered, Failed
from notifications.webhooks import addresses
from notifications.webhooks.caller import Caller
from notifications.webhooks.targets import TargetRefused, check_url, origin_of
from tests.strangers import Authority, Detour, Names, Stranger

#: Refused when they are registered, and whenever they are to be called.
WRITTEN = {
    # addresses of IPv4
    "loopback": "https://127.0.0.1/",
    "loopback, not its first": "https://127.8.9.10/",
    "this network": "https://0.0.0.0/",
    "private 10": "https://10.0.0.1/",
    "private 172": "https://172.16.0.1/",
    "private 192": "https://192.168.1.1/",
    "carrier": "https://100.64.0.1/",
    "cloud metadata": "https://169.254.169.254/latest/meta-data/",
    "metadata of Alibaba": "https://100.100.100.200/",
    "metadata of Oracle": "https://192.0.0.192/",
    "platform of Azure": "https://168.63.129.16/",
    "benchmark": "https://198.18.0.1/",
    "documentation": "https://203.0.113.5/",
    "6to4 relay": "https://192.88.99.1/",
    "multicast": "https://224.0.0.1/",
    "reserved": "https://240.0.0.1/",
    "broadcast": "https://255.255.255.255/",
    "loopback with the port": "https://127.0.0.1:443/",
    # addresses of IPv4, written oddly
    "octal": "https://0177.0.0.1/",
    "octal, all": "https://0177.0000.0000.0001/",
    "octal of a public one": "https://010.010.010.010/",
    "decimal": "https://2130706433/",
    "decimal with zeros": "https://00002130706433/",
    "overflowing": "https://4294967297/",
    "part overflowing": "https://127.0.0.257/",
    "hex": "https://0x7f000001/",
    "hex in capitals": "https://0X7F000001/",
    "hex, dotted": "https://0x7f.0x0.0x0.0x1/",
    "hex, last only": "https://127.0.0.0x1/",
    "empty hex": "https://127.0.0.0x/",
    "two parts": "https://127.1/",
    "three parts": "https://127.0.1/",
    "one part": "https://0/",
    "five parts": "https://127.0.0.1.1/",
    "name that ends in a number": "https://example.com.127/",
    "dot at the address's end": "https://127.0.0.1./",
    "empty part": "https://127.0..1/",
    "percent-encoded address": "https://%31%32%37.0.0.1/",
    "full-width digits": "https://\uff11\uff12\uff17.\uff10.\uff10.\uff11/",
    "circled digits": "https://①②⑦.⓪.⓪.①/",
    "full-width dots": "https://127\uff0e0\uff0e0\uff0e1/",
    # addresses of IPv6
    "IPv6 loopback": "https://[::1]/",
    "IPv6 loopback in full": "https://[0:0:0:0:0:0:0:1]/",
    "IPv6 unspecified": "https://[::]/",
    "IPv4-mapped": "https://[::ffff:127.0.0.1]/",
    "IPv4-mapped in hex": "https://[::ffff:7f00:1]/",
    "IPv4-mapped of a public one": "https://[::ffff:8.8.8.8]/",
    "IPv4-compatible": "https://[::127.0.0.1]/",
    "IPv4-translated": "https://[::ffff:0:127.0.0.1]/",
    "NAT64": "https://[64:ff9b::127.0.0.1]/",
    "NAT64 of a public one": "https://[64:ff9b::808:808]/",
    "NAT64 of one's own": "https://[64:ff9b:1::a00:1]/",
    "6to4": "https://[2002:7f00:1::]/",
    "Teredo": "https://[2001:0:53aa:64c:0:ffff:80ff:fffe]/",
    "unique local": "https://[fd00::1]/",
    "metadata by IPv6": "https://[fd00:ec2::254]/",
    "link-local": "https://[fe80::1]/",
    "link-local with a zone": "https://[fe80::1%25eth0]/",
    "zone, not encoded": "https://[fe80::1%eth0]/",
    "zone of a public one": "https://[2606:4700::1111%25lo]/",
    "site-local": "https://[fec0::1]/",
    "IPv6 multicast": "https://[ff02::1]/",
    "IPv6 documentation": "https://[2001:db8::1]/",
    "IPv6 documentation, newer": "https://[3fff::1]/",
    "IPv6 discarded": "https://[100::1]/",
    "segment routing": "https://[5f00::1]/",
    "IPv6 without brackets": "https://::1/",
    "IPv4 in brackets": "https://[127.0.0.1]/",
    "bracket not closed": "https://[::1/",
    "future address": "https://[v1.fe80::a]/",
    # names of one's own machine and network
    "localhost": "https://localhost/",
    "localhost in capitals": "https://LOCALHOST/",
    "localhost with a dot": "https://localhost./",
    "under localhost": "https://api.localhost/",
    "localdomain": "https://localhost.localdomain/",
    "mDNS": "https://printer.local/",
    "metadata of Google": "https://metadata.google.internal/",
    "home": "https://router.home.arpa/",
    "name without a dot": "https://postgres/",
    "dot at the name's end": "https://example.com./",
    "two dots": "https://example..com/",
    "dot in front": "https://.example.com/",
    "only a dot": "https://./",
    "label too long": f"https://{'a' * 64}.com/",
    "name too long": f"https://{'a.' * 127}com/",
    "hyphen in front": "https://-example.com/",
    "hyphen behind": "https://example-.com/",
    "underscore": "https://my_host.example.com/",
    "not in punycode": "https://münchen.example/",
    "letter that looks like another": "https://\u0430pple.com/",
    "ideographic dot": "https://example\u3002com/",
    "soft hyphen": "https://exam\u00adple.com/",
    "percent-encoded name": "https://%6cocalhost/",
    "percent-encoded dot": "https://example%2ecom/",
    "percent-encoded NUL": "https://example.com%00.evil.example/",
    "star": "https://*.example.com/",
    # user names, separators and other tricks between two parsers
    "user": "https://user@example.com/",
    "user and password": "https://user:password@example.com/",
    "empty user": "https://@example.com/",
    "host as a user": "https://example.com@127.0.0.1/",
    "host and port as a user": "https://example.com:443@127.0.0.1/",
    "two at signs": "https://a@example.com@127.0.0.1/",
    "encoded at sign": "https://example.com%40127.0.0.1/",
    "backslash before at": "https://example.com\\@127.0.0.1/",
    "backslashes": "https:\\\\127.0.0.1\\",
    "backslash in the path": "https://example.com/a\\b",
    "fragment before at": "https://example.com#@127.0.0.1/",
    "fragment": "https://example.com/#top",
    "empty fragment": "https://example.com/#",
    "tab": "https://exa\tmple.com/",
    "line": "https://example.com/\r\nHost: evil.example",
    "NUL": "https://example.com/\0",
    "space": "https://example.com/a b",
    "space in front": " https://example.com/",
    "space behind": "https://example.com/ ",
    "line behind": "https://example.com/\n",
    "delete": "https://example.com/\x7f",
    "surrogate": "https://example.com/\ud800",
    "brackets in the name": "https://exam[ple].com/",
    "semicolon": "https://example.com;127.0.0.1/",
    "comma": "https://example.com,127.0.0.1/",
    # ports
    "port 80": "https://example.com:80/",
    "port of ssh": "https://example.com:22/",
    "port of redis": "https://example.com:6379/",
    "high port": "https://example.com:8443/",
    "port zero": "https://example.com:0/",
    "port too high": "https://example.com:65979/",
    "port with zeros": "https://example.com:00443/",
    "port with a sign": "https://example.com:+443/",
    "negative port": "https://example.com:-443/",
    "port without a number": "https://example.com:/",
    "two ports": "https://example.com:443:80/",
    "port in words": "https://example.com:https/",
    # schemes
    "http": "http://example.com/",
    "http in capitals": "HTTP://example.com/",
    "ftp": "ftp://example.com/",
    "file": "file:///etc/passwd",
    "gopher": "gopher://127.0.0.1:6379/_FLUSHALL",
    "data": "data:text/plain,hello",
    "javascript": "javascript:alert(1)",
    "unix socket": "http+unix://%2Frun%2Fdocker.sock/",
    "websocket": "wss://example.com/",
    "view-source": "view-source:https://example.com/",
    "no scheme": "example.com/hook",
    "scheme of the page": "//example.com/hook",
    "path only": "/hook",
    "one slash": "https:/example.com/",
    "no slash": "https:example.com",
    "three slashes": "https:///example.com/",
    "no host": "https://",
    "no host but a path": "https:///",
    "query for a host": "https://?example.com",
    "empty": "",
    "too long": "https://example.com/" + "a" * 481,
}
#: Names are harmless to look at; what they stand for is seen when they are called.
RESOLVED = {
    "loopback": ["127.0.0.1"],
    "private": ["10.1.2.3"],
    "metadata": ["169.254.169.254"],
    "IPv6 loopback": ["::1"],
    "unique local": ["fd00:ec2::254"],
    "link-local with its zone": ["fe80::1%lo"],
    "IPv4-mapped": ["::ffff:10.0.0.1"],
    "NAT64": ["64:ff9b::a00:1"],
    "6to4": ["2002:a00:1::1"],
    "carrier": ["100.64.1.1"],
    "a private one behind a public one": ["93.184.215.14", "127.0.0.1"],
    "a public one behind a private one": ["192.168.0.1", "93.184.215.14"],
    "a private one behind many": [*[f"93.184.215.{last}" for last in range(1, 20)], "10.0.0.1"],
    "a private one of the other family": ["93.184.215.14", "::1"],
    "what is no address": ["example.org"],
    "nothing": [],
}
GOOD = {
    "plain": "https://example.com",
    "path": "https://example.com/hooks/payments",
    "query": "https://example.com/hooks?shop=1&x=%20@y",
    "query without a path": "https://example.com?shop=1",
    "usual port": "https://example.com:443/",
    "capitals": "HTTPS://Example.COM/Hooks",
    "public address": "https://93.184.215.14/",
    "public address of IPv6": "https://[2606:4700:4700::1111]/",
    "punycode": "https://xn--mnchen-3ya.example/",
    "digits in front": "https://3com.example/",
    "numbers in the middle": "https://1.2.3.4.example.com/",
    "local in the middle": "https://local.example.com/",
    "ends like local": "https://notlocal.example.com.mylocal/",
    "longest": "https://example.com/" + "a" * 480,
    "at sign in the path": "https://example.com/@shop",
}


@pytest.fixture
def stranger():
    stranger = Stranger()
    yield stranger
    stranger.close()


@pytest.fixture
def detour(stranger):
    return Detour(stranger.port)


@pytest.fixture
def call(detour):
    """Calls a URL by the rules of production, with a resolver that one can set."""
    callers = []

    def call(url, resolve):
        callers.append(Caller(private=False, resolve=resolve, network=detour))
        return callers[-1].call_now(url, headers={}, body=b"{}")

    yield call
    for caller in callers:
        caller.close()


def test_the_corpora_do_not_shrink():
    assert len(WRITTEN) + len(RESOLVED) >= 140


@pytest.mark.parametrize("url", WRITTEN.values(), ids=WRITTEN)
def test_a_hostile_url_is_never_registered(url):
    with pytest.raises(TargetRefused) as refused:
        check_url(url, private=False)
    assert refused.value.code.startswith("url_")
    assert refused.value.sentence.endswith(".")


@pytest.mark.parametrize("url", WRITTEN.values(), ids=WRITTEN)
def test_a_hostile_url_is_never_called_even_if_it_was_registered(url, call, detour, stranger):
    names = Names(["93.184.215.14"])
    assert isinstance(call(url, names), Failed)
    assert (names.questions, detour.asked, stranger.connections) == ([], [], 0)


@pytest.mark.parametrize("answer", RESOLVED.values(), ids=RESOLVED)
def test_a_name_that_leads_into_our_network_is_never_called(answer, call, detour, stranger):
    check_url("https://hooks.example.com/", private=False)
    assert isinstance(call("https://hooks.example.com/", Names(answer)), Failed)
    assert (detour.asked, stranger.connections) == ([], 0)


def test_what_is_refused_does_not_tell_which_address_a_name_has(call):
    answers = [answer for answer in RESOLVED.values() if answer]
    assert len({call("https://hooks.example.com/", Names(answer)).detail for answer in answers}) == 1


def test_a_name_that_changes_after_the_check_leads_nowhere_else(tmp_path, detour, stranger):
    authority = Authority(tmp_path)
    stranger.context = authority.server("rebind.example.com")
    names = Names(["93.184.215.14"], ["127.0.0.1"])
    caller = Caller(private=False, resolve=names, network=detour, context=authority.client())
    first = caller.call_now("https://rebind.example.com/", headers={}, body=b"{}")
    assert isinstance(first, Delivered)
    assert names.questions == ["rebind.example.com"]
    assert detour.asked == [("93.184.215.14", 443)]
    second = caller.call_now("https://rebind.example.com/", headers={}, body=b"{}")
    caller.close()
    assert isinstance(second, Failed)
    assert detour.asked == [("93.184.215.14", 443)]


@pytest.mark.parametrize("url", GOOD.values(), ids=GOOD)
def test_a_good_url_is_never_refused(url):
    check_url(url, private=False)
    check_url(url, private=True)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:9000/", "http://localhost/", "https://receiver:8443/", "http://[::1]/"]
)
def test_a_developer_is_not_kept_from_their_own_machine(url):
    check_url(url, private=True)


@pytest.mark.parametrize(
    "name", ["octal", "decimal", "hex", "two parts", "user", "fragment", "tab", "ftp", "port zero"]
)
def test_what_is_malformed_is_not_let_through_on_a_developers_machine_either(name):
    with pytest.raises(TargetRefused):
        check_url(WRITTEN[name], private=True)


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://example.com", "https://example.com"),
        ("HTTPS://Example.COM:443/Hooks?x=1", "https://example.com"),
        ("http://localhost:80/", "http://localhost"),
        ("http://localhost:9000/hook", "http://localhost:9000"),
        ("https://example.com:80/", "https://example.com:80"),
        ("https://[2606:4700:0:0::1]:443/", "https://[2606:4700::1]"),
        ("http://[::1]:9000/", "http://[::1]:9000"),
    ],
)
def test_one_origin_is_never_written_in_two_ways(url, origin):
    assert origin_of(url) == origin


@pytest.mark.parametrize("network", [*addresses.SPECIAL_V4, *addresses.SPECIAL_V6], ids=str)
def test_no_edge_of_a_special_network_is_public(network):
    for address in (network[0], network[-1]):
        assert not addresses.is_unlisted(address)
        assert not addresses.is_public(address)


@pytest.mark.parametrize(
    "text",
    ["10.0.0.1", "127.0.0.1", "169.254.169.254", "100.64.0.1", "192.168.0.1", "224.0.0.1", "::1", "fe80::1", "fd00::1"],
)
def test_neither_our_lists_nor_pythons_are_needed_for_the_plain_cases(text):
    assert not addresses.is_unlisted(ip_address(text))
    assert not addresses.is_ordinary(ip_address(text))


@pytest.mark.parametrize(
    "text",
    [
        *["8.8.8.8", "93.184.215.14", "1.1.1.1", "100.63.255.255", "100.128.0.0", "172.15.0.1", "172.32.0.1"],
        *["2606:4700:4700::1111", "2a00:1450:4001:82b::200e", "2001:4860:4860::8888"],
    ],
)
def test_no_public_address_is_taken_for_another(text):
    assert addresses.is_public(ip_address(text))
