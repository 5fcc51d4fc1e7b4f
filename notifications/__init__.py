"""Who is told: email, SMS and signed webhooks. Reacts to payment events and can never touch a payment."""
