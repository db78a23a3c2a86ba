"""Two networks judged on samples: errors, accuracy, certificates, and their meaning."""
