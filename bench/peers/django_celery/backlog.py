"""`python -m bench.peers.django_celery.backlog`: one task for each payment that is pending."""

import django

from bench.peers.django_celery.app import app

if __name__ == "__main__":
    django.setup()
    from bench.peers.django_celery.models import Payment  # models need what stands above

    with app.producer_pool.acquire(block=True) as producer:
        for payment_id in Payment.objects.values_list("id", flat=True):
            app.send_task("bench.peers.django_celery.tasks.process", [str(payment_id)], producer=producer)
