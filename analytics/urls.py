"""The API's addresses for analytics. A trailing slash is optional everywhere."""

from django.urls import re_path

from analytics.views import DailyMetricsView, SummaryView

urlpatterns = [
    re_path(r"^analytics/daily/?$", DailyMetricsView.as_view(), name="analytics-daily"),
    re_path(r"^analytics/summary/?$", SummaryView.as_view(), name="analytics-summary"),
]
