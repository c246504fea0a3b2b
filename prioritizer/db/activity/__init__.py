"""What goes on at the site: queues, senders, arrivals, daemons, figures of the dashboard."""
