"""Child processes that outlive a session, and their health: each module starts and stops one."""
