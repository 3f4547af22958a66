"""From the user's data to integer codes and random-effects terms; no statistics here."""
