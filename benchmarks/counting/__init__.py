"""What an artifact costs by counting: work, traffic and instructions, exactly, with no clock."""
