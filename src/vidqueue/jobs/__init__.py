"""What happens to a job, whoever asks: submit, control, dispatch, finish, and what the daemon does unasked."""
