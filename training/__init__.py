"""What trains, judges and promotes the models that write in a person's voice."""
