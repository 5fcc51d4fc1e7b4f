"""Who may call: merchants, their members and API keys, authentication and permissions."""
