"""What it adds up to: business numbers from persisted payments, for dashboards and the API."""
