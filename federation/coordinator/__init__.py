"""What a coordinator does, without HTTP: enrolment, budgets, plans and rounds.

`authority` is what every service is given; `populations` keeps the budget and the ledger;
`enrolment`, `sessions` and `rosters` say who is who; `federations` and `versions` hold plans and
what they released; `rounds` is the state machine, `driver` the thread that moves it.
"""
