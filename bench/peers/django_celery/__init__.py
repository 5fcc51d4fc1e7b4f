"""Django with Celery: the task is sent straight to the broker, and what the broker loses is lost."""
