"""What PostgreSQL and RabbitMQ themselves can do: what every design is measured against."""
