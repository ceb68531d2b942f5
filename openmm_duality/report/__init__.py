"""The page that shows what the rooms above found."""
