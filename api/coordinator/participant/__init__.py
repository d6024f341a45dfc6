"""What nodes call: enrolment and sessions, plans and versions, work, and the rounds' messages."""
