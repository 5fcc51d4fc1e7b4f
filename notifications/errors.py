"""Why a request about notifications was refused. Each class's docstring is what the caller reads."""

from merchants.refusals import Refused


class EndpointExists(Refused):
    """There is an endpoint for this URL already; change that one, or name another URL."""

    code = "webhook_endpoint_exists"
    status_code = 409
    title = "Webhook endpoint exists"


class TooManyEndpoints(Refused):
    """An account has at most 20 webhook endpoints in each mode; delete one that nobody needs."""

    code = "webhook_endpoints_limit"
    status_code = 409
    title = "Too many webhook endpoints"


class EndpointDisabled(Refused):
    """This webhook endpoint is disabled, so nothing is sent to it; enable it first."""

    code = "webhook_endpoint_disabled"
    status_code = 409
    title = "Webhook endpoint disabled"


class EndpointDeleted(Refused):
    """This webhook endpoint is deleted, and nothing is sent to it any more; make another one."""

    code = "webhook_endpoint_deleted"
    status_code = 409
    title = "Webhook endpoint deleted"


class DeliveryUnderWay(Refused):
    """This delivery is under way already; look at it again when it has ended."""

    code = "delivery_under_way"
    status_code = 409
    title = "Delivery under way"
