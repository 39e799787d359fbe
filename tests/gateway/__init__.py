"""The gateway model: its rules, and what it does with a driver that misbehaves on purpose."""
