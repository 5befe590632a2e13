-- 0.1.0 to 0.2.0: what the body does not replace by itself.

-- Made anew by the body, because a view's columns and a function's parameters can not be changed in place.
